"""Flow maps: networks of two times that jump along a flow, for sampling in one or two steps."""

from geoflow.flows.flow_maps.base import FlowMap, Teacher
from geoflow.flows.flow_maps.consistency import Consistency
from geoflow.flows.flow_maps.mean_flow import MeanFlow
from geoflow.flows.flow_maps.shortcut import Shortcut

__all__ = ["Consistency", "FlowMap", "MeanFlow", "Shortcut", "Teacher"]
