"""Nonlinear Schwarz methods: training block by block, joined by a synchronisation and a global step."""
