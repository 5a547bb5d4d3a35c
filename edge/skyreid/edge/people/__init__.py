"""From frames to people: detection, tracking, the choice of crops, the place on the ground."""
