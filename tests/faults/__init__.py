"""Real replicas, clients and disks under faults, judged by what the simulator judges clients' histories by."""
