"""Placing an app: network, addresses, workload; the pool is made and the YAML is shown."""

from fastapi import APIRouter

router = APIRouter()
