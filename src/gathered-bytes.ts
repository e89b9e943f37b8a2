/**
 * A body that comes in pieces, copied together as they come: whoever sends it chooses how small its chunks are, and kept
 * as pieces of one byte each they would take hundreds of times their length.
 */
export interface GatheredBytes {
  /** False, and nothing is taken, where it would be more than the limit. */
  add(piece: Buffer): boolean
  /** All of it, in a buffer that is no larger. Nothing may be added afterwards. */
  whole(): Buffer
}

export function gatherBytes(limitBytes: number): GatheredBytes {
  let room = Buffer.alloc(0)
  let length = 0

  return {
    add(piece) {
      const least = length + piece.length
      if (least > limitBytes) return false
      if (least > room.length) {
        const roomier = Buffer.allocUnsafeSlow(Math.max(least, 2 * room.length))
        room.copy(roomier, 0, 0, length)
        room = roomier
      }
      length += piece.copy(room, length)
      return true
    },
    whole: () => (length === room.length ? room : Buffer.from(room.subarray(0, length))),
  }
}
