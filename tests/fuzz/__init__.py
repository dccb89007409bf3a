"""What comes of damaged files, places that are no files, full disks and kills: `make torture`."""
