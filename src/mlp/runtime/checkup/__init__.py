"""Questions that are asked in a process of their own, here or in a pod."""
