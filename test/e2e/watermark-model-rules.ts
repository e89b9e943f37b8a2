/** What the proof of freshness assumes of the world (replicator/relay/epochs.ts), one by one, so that one can be broken. */
export interface Rules {
  /** Whether a process of the registry delivers its events in their order. */
  readonly isOrdered: boolean
  /** For how long a sender tries one event at least. */
  readonly givesUpMs: number
  /** How long after the acknowledgement of its write an event may be made; 0: before it, always. */
  readonly eventLagMs: number
  /** How long after its event a tag is written at most; and when the event is lost. */
  readonly settledMs: number
  readonly settlesMs: number
  /** What the relay believes the queue of a process to hold; undefined: what it holds. */
  readonly toldQueueSize: number | undefined
  /** How long a process acknowledges writes before its address is named. */
  readonly namedLateMs: number
  /** How long a process acknowledges writes after its address is not named any longer. */
  readonly writesOnMs: number
  /** A process that was started again says the name that it had before. */
  readonly keepsInstanceId: boolean
  /** By how much what the primary shows may be behind what it acknowledged. */
  readonly shownLateMs: number
  /** How fast the clocks of the sites go. */
  readonly siteClockRate: number
  /** The relay's clock stands still while the relay does. */
  readonly relayClockStops: boolean
  /** A page that was lost on its way answers a later question. */
  readonly mixesPages: boolean
}

/** How many events a process queues; small, so that it overflows. */
export const QUEUE_LIMIT = 30

/** As documented, whatever the code believes. */
export const ALL_HOLD: Rules = {
  isOrdered: true,
  givesUpMs: 4_000,
  eventLagMs: 0,
  settledMs: 60_000,
  settlesMs: 5_000,
  toldQueueSize: undefined,
  namedLateMs: 0,
  writesOnMs: 0,
  keepsInstanceId: false,
  shownLateMs: 0,
  siteClockRate: 1,
  relayClockStops: false,
  mixesPages: false,
}
