"""The allocator's state as the host read it in the guest's RAM, ready for replay."""
