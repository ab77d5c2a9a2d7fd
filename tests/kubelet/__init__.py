"""A small cluster for tests: an API server of ours, and nodes that run each pod as a real container.

The nodes speak to any API server, so that they also serve a real kube-apiserver. Nothing here is Kubernetes: what is
tested on it is said to be tested on a test kubelet.
"""
