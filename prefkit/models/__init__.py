"""Chat models behind one small interface: messages in, a reply out."""
