// The desk works without this file; with it, it is quicker.
"use strict";
