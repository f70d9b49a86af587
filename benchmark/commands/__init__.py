"""What each command takes and does, a module each; every heavy import waits inside the function that needs it."""
