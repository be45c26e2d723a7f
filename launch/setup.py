"""The colcon package of this room. With pip, the root pyproject.toml installs all rooms at once."""

from glob import glob

from setuptools import find_packages, setup

NAME = "robin_bringup"

setup(
    name=NAME,
    version="0.1.0",
    description="Launch files and parameter files of the picking cell.",
    license="Apache-2.0",
    maintainer="The Robin Edge authors",
    maintainer_email="robin-edge@users.noreply.github.com",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={"": ["**/*.yaml", "**/*.j2", "**/*.npz"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", sorted(glob(f"{NAME}/launch/*.launch.py"))),
        (f"share/{NAME}/config", sorted(glob(f"{NAME}/config/*.yaml"))),
    ],
    entry_points={
        "console_scripts": [
            f"workcell = {NAME}.nodes.workcell:main",
            f"lifecycle_manager = {NAME}.nodes.lifecycle_manager:main",
            f"acceptance = {NAME}.nodes.acceptance:main",
        ]
    },
    install_requires=["setuptools"],
    zip_safe=False,
)
