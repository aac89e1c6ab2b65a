"""Who is there, and how to reach them unseen: identities, adverts, onion circuits, transports."""
