"""``junctor chaos``: proves on a running cluster that what was published is delivered, whatever fails meanwhile."""
