"""A/B tests as data: the section `ab`, the traffic, the verdict, the way to champion."""
