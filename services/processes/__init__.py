"""Supervised model processes and batch queues."""
