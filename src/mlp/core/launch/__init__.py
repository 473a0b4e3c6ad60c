"""What a job is: specification, image, code bundle, Kubernetes objects, and whether it fits."""
