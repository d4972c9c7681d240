"""Files of many jobs: read line by line, fed a bounded number at a time, answered into files that grow."""
