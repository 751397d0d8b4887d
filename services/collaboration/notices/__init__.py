"""What roles are told of and must see: reminders and escalations."""
