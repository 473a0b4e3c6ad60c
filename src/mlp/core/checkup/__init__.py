"""What a look at the project, the machine or a cluster found."""
