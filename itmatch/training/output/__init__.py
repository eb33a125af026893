"""What a training prints and writes: recalls, logs, fragments."""
