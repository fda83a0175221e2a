"""Pictures of the toy study: particles on the sphere of rotations, grasps, streams, charts."""
