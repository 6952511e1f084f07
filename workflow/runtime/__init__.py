"""Services every process needs: clock, log, encryption, blobs, leases, outgoing HTTP."""
