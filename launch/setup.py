"""The colcon package of this room. With pip, the root pyproject.toml installs all rooms at once."""

from glob import glob
from pathlib import Path

from setuptools import find_packages, setup

NAME = "robin_bringup"
# Every module of nodes/ with a main is an executable.
EXECUTABLES = [file.stem for file in sorted(Path(NAME, "nodes").glob("*.py")) if "\ndef main(" in file.read_text()]

setup(
    name=NAME,
    version="0.1.0",
    description="Launch files and parameter files of the picking cell.",
    license="Apache-2.0",
    maintainer="The Robin Edge authors",
    maintainer_email="robin-edge@users.noreply.github.com",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={"": ["**/*.yaml", "**/*.j2", "**/*.npz", "**/*.xml", "**/*.rviz", "**/*.json"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", sorted(glob(f"{NAME}/launch/*.launch.py"))),
        (f"share/{NAME}/config", sorted(glob(f"{NAME}/config/*"))),
        (f"share/{NAME}/security", sorted(glob(f"{NAME}/security/*.xml"))),
    ],
    entry_points={"console_scripts": [f"{name} = {NAME}.nodes.{name}:main" for name in EXECUTABLES]},
    install_requires=["setuptools"],
    zip_safe=False,
)
