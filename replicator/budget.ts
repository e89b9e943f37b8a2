/**
 * What copying may cost the link to the primary: requests and bytes per second, shared by everything that is not a
 * client waiting. Clients' misses are counted and never wait, so copying gets what they leave.
 */

export interface Budget {
  /** Resolves when one more request may be sent; in the order asked, `urgent` ones first. Rejects with the signal's reason. */
  request(signal?: AbortSignal, urgent?: boolean): Promise<void>
  /** Bytes that arrived for copying. Resolves when more may be read: at once while there is room. */
  receive(bytes: number, signal?: AbortSignal): Promise<void>
  /** Bytes and requests that clients caused: they come off what copying may use next. */
  spend(bytes: number, requests?: number): void
}

export interface BudgetOptions {
  /** Undefined: no limit. */
  readonly requestsPerSecond: number | undefined
  /** Undefined: no limit. */
  readonly bytesPerSecond: number | undefined
}
