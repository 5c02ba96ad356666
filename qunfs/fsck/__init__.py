"""The check of a whole namespace: what quorums, single replicas and a contents folder say, held against each other."""
