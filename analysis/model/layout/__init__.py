"""Where memory lies: firmware memory map → nodes → zones → pageblocks, sections and the memmap."""
