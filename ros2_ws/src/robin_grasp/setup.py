"""The colcon package of this room. With pip, the root pyproject.toml installs all rooms at once."""

from pathlib import Path

from setuptools import find_packages, setup

NAME = "robin_grasp"
# Every module of nodes/ with a main is an executable.
EXECUTABLES = [file.stem for file in sorted(Path(NAME, "nodes").glob("*.py")) if "\ndef main(" in file.read_text()]

setup(
    name=NAME,
    version="0.1.0",
    description="Suction tool, cup seal, wrench check and grasp planner for a tool of one to eight cups.",
    license="Apache-2.0",
    maintainer="The Robin Edge authors",
    maintainer_email="robin-edge@users.noreply.github.com",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={"": ["**/*.yaml", "**/*.j2", "**/*.npz"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
    ],
    entry_points={"console_scripts": [f"{name} = {NAME}.nodes.{name}:main" for name in EXECUTABLES]},
    install_requires=["setuptools"],
    zip_safe=False,
)
