"""geoflow: flow matching on Lie groups for robot action chunks."""

__version__ = "0.1.0"
