"""A/B tests: shares of the traffic, the verdict, and the steps to champion."""
