"""Who owes whom: money, prices and receipts; lanes and credits join them later."""
