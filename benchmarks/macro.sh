#!/bin/bash
for row; do echo "start $row"; echo "fail $row not written yet"; done
