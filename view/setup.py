"""The colcon package of this room. With pip, the root pyproject.toml installs all rooms at once."""

from setuptools import find_packages, setup

NAME = "robin_view"

setup(
    name=NAME,
    version="0.1.0",
    description="The page: what the robot saw, why it chose, what became of it, and what it learned.",
    license="Apache-2.0",
    maintainer="The Robin Edge authors",
    maintainer_email="robin-edge@users.noreply.github.com",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={"": ["**/*.j2", "static/**"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=False,
)
