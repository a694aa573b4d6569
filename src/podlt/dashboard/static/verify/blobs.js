// Parts of a file that is read bit by bit: memory does not grow with the file.
podltVerify.define("blobs", function () {
  "use strict";
  const STEP = 4 * 2 ** 20;

  // A part of a Blob, read from its start to its end.
  class Section {
    constructor(blob, offset, size) {
      this.blob = blob;
      this.offset = offset;
      this.size = size;
      this.seek(0);
    }

    seek(position) {
      this.position = position; // of the next byte that is read
      this.buffer = new Uint8Array(0);
      this.at = 0; // where in the buffer it is
    }

    get left() {
      return this.size - this.position;
    }

    // The next bytes, as many as there are up to `most`, without moving on. What is given is never written to again.
    async peek(most) {
      const wanted = Math.min(most, this.left);
      if (this.buffer.length - this.at < wanted) {
        const start = this.offset + this.position;
        const end = start + Math.min(Math.max(wanted, STEP), this.left);
        this.buffer = new Uint8Array(await this.blob.slice(start, end).arrayBuffer());
        this.at = 0;
        if (this.buffer.length < wanted) throw new Error("the file changed while it was read");
      }
      return this.buffer.subarray(this.at, this.at + wanted);
    }

    async read(most) {
      const found = await this.peek(most);
      this.position += found.length;
      this.at += found.length;
      return found;
    }
  }

  return { Section, STEP };
});
