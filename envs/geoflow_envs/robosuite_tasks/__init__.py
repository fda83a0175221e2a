"""Tasks of robosuite (MIT) with geoflow's actions and observations; robosuite itself is imported by the first env."""
