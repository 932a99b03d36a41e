"""From a load result and a demand to what Kubernetes is told, and to how far that can be trusted.

In reading order: command -> demand, measured, capacity, sizing -> simulation, forecast, fleet -> component, alerts,
document.
"""
