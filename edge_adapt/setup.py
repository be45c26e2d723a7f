"""The colcon package of this room. With pip, the root pyproject.toml installs all rooms at once."""

from setuptools import find_packages, setup

NAME = "edge_adapt"

setup(
    name=NAME,
    version="0.1.0",
    description="Decision records, reports, bags and training of the picking network.",
    license="Apache-2.0",
    maintainer="The Robin Edge authors",
    maintainer_email="robin-edge@users.noreply.github.com",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={"": ["**/*.yaml", "**/*.j2", "**/*.npz"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
    ],
    entry_points={
        "console_scripts": [
            f"recorder_node = {NAME}.nodes.recorder_node:main",
            f"bag_recorder_node = {NAME}.nodes.bag_recorder_node:main",
        ]
    },
    install_requires=["setuptools"],
    zip_safe=False,
)
