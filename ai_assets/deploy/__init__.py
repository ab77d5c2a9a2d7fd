"""Manifests for Kubernetes, made of what collections and operations.yaml declare; nothing here talks to a cluster."""
