/** GitLab's limit of `last_sync_failure` and `verification_failure`. */
const MAX_LENGTH = 255

/** What can be stored of a peer's words: no control characters (Postgres refuses NUL), no half of a surrogate pair. */
export function failureText(message: string): string {
  return message
    .replace(/\p{Cc}+/gu, ' ')
    .slice(0, MAX_LENGTH)
    .toWellFormed()
}
