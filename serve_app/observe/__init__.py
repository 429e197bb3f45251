"""What the service tells about itself: metrics, traces and log lines. Off the path of the data: nothing waits here."""
