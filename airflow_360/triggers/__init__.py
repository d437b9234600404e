"""Triggers for deferrable tasks: waits that hold no worker."""
