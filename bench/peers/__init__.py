"""What headrace is compared with: plain scripts and other task queues, each run as a process of its own."""
