#!/usr/bin/env bash
# Makes docs/gallery: eight samples before and after, as docs/gallery.md shows them. ATELIER is the binary.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${ATELIER:?ATELIER is to name the binary}"

cut() {
    local sample=$1
    shift
    "$ATELIER" cutout "samples/$sample" --format webp --encoding-quality 85 --overwrite -o "docs/gallery/${sample%.*}.webp" "$@"
}

cut dress.jpg
cut fur-hat.jpg --background '#e8e4de'
cut fringed-skirt.jpg --background '#f4f1ec' --shadow drop
cut woollen-hat.jpg --background '#27364a'
cut slippers.jpg --background 'linear-gradient(#ffffff, #dfe3ea)' --shadow contact
cut sneakers.jpg --background 'linear-gradient(#ffffff, #d8dde6)' --shadow contact --size 800x800 --scale 80%
cut jacket.jpg --background 'linear-gradient(#f6f2ea, #e2d8c8)' --shadow drop
cut lemur.png --background '#0e2a33'
