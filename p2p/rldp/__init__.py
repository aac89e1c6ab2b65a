"""RLDP2: messages of megabytes over datagrams, in symbols of which any that are enough will do."""
