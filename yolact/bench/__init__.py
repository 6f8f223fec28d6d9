"""Times the whole way from picture files to COCO results on this machine, beside what else a user could pick."""
