"""What the server costs on this machine: ``skyreid-server bench``."""
