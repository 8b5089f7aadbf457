"""The embedded sample: English and Turkish sentences in PAN-X's style, and the tiny backbone that reads them."""
