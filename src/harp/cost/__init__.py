"""What a recipe costs, as arithmetic: passes over the images, operations, memory traffic, hours on many devices."""
