/** The last part of a text that may be endless: what a child process wrote. */
export interface TextRing {
  append(text: string): void
  text(): string
}

/** Keeps at least the last `limitChars` characters (default 128 Ki), at most twice as many. */
export function createTextRing(limitChars: number = 128 * 1024): TextRing {
  let older = ''
  let newer = ''
  return {
    append(text) {
      newer += text.length > limitChars ? text.slice(-limitChars) : text
      if (newer.length < limitChars) return
      older = newer
      newer = ''
    },
    text: () => older + newer,
  }
}
