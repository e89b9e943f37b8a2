/**
 * Why an epoch ends: the closed set of reasons, and for each the sentence a person reads. It says what happened and what
 * to do, and holds no number that changes while it is true: sites are told when it does.
 */

interface EndWords {
  /** `instance` is an address of the registry, or the id of one of its processes; `detail` is what the reason names. */
  readonly happened: (instance: string, detail: string) => string
  readonly remedy: string
}

/** What an epoch needs to begin again, for ends that pass by themselves. */
const NOTHING = 'nothing is to be done unless it goes on'

export const EPOCH_ENDS = {
  'relay-started': {
    happened: () => 'the relay was started',
    remedy:
      'nothing is to be done: once every instance has returned canaries for 5 s, completeness is proved again',
  },
  'relay-paused': {
    happened: (instance) => `the relay itself stood still or sent no canary to ${instance} for seconds`,
    remedy: 'give its machine more CPU, and do not suspend it',
  },
  'canary-missing': {
    happened: (instance) => `a canary sent to ${instance} did not come back as an event within 2 s`,
    remedy:
      'check that this registry is configured to notify this relay, that its notifications are not ignored ' +
      '(relay.canary.kind) and not delayed, and that its queue is short',
  },
  'canary-out-of-order': {
    happened: (instance) => `a canary sent to ${instance} came back before an earlier one: an event was lost`,
    remedy: "check the registry's log for lost events, its number of retries and its queue",
  },
  'canary-refused': {
    happened: (instance, detail) => `the instance ${instance} did not take a canary: ${detail}`,
    remedy:
      'check that this address of relay.instances is right and up, and that the credential of upstream.auth may ' +
      'read, and at first push, relay.canary.repository',
  },
  'unknown-instance': {
    happened: (instance) =>
      `an event came from the registry process ${instance}, which no canary has come back from`,
    remedy: `if a registry was restarted just now, ${NOTHING}; else name every process of it in relay.instances`,
  },
  'instance-changed': {
    happened: (instance, detail) =>
      `the address ${instance} is answered by another process than before (${detail})`,
    remedy:
      `if the registry was restarted just now, ${NOTHING}; if it goes on, this address is a load balancer: name the ` +
      'processes behind it in relay.instances',
  },
  'instance-joined': {
    happened: (instance) => `the instance ${instance} joined those of the registry`,
    remedy: `after a deliberate change ${NOTHING}`,
  },
  'instance-left': {
    happened: (instance) => `the instance ${instance} left those of the registry`,
    remedy: `after a deliberate change ${NOTHING}`,
  },
  unresolved: {
    happened: (_, detail) => `the names in relay.instances could not be resolved: ${detail}`,
    remedy: "check the names and this machine's DNS",
  },
  'receiver-failed': {
    happened: (_, detail) =>
      `this relay refused a notification (${detail}), and its sender may have given it up`,
    remedy: "see the relay's log for why, and check what else may post to http.events.addr",
  },
  'queue-overflow': {
    happened: (instance) => `so many events of ${instance} came at once that its queue may have been full`,
    remedy:
      "raise the queue size of the registry's notifications and relay.queuesize with it, and ignore what nobody needs " +
      '(config render notifications shows how)',
  },
  'log-failed': {
    happened: (_, detail) => `the relay could not write its log: ${detail}`,
    remedy: 'make room on its disk, or see that it can be written',
  },
} as const satisfies Record<string, EndWords>

export type EpochEndReason = keyof typeof EPOCH_ENDS

/** How many epochs each reason has ended, before any has. */
export const NO_ENDS: Readonly<Record<EpochEndReason, number>> = {
  'relay-started': 0,
  'relay-paused': 0,
  'canary-missing': 0,
  'canary-out-of-order': 0,
  'canary-refused': 0,
  'unknown-instance': 0,
  'instance-changed': 0,
  'instance-joined': 0,
  'instance-left': 0,
  unresolved: 0,
  'receiver-failed': 0,
  'queue-overflow': 0,
  'log-failed': 0,
}

export interface EpochEnd {
  readonly reason: EpochEndReason
  /** An address, or the id of a process. */
  readonly instance?: string | undefined
  readonly detail?: string | undefined
}

/** So much of each name and detail is shown: a site takes no note of over 2000 characters. */
const SHOWN_CHARACTERS = 600

/** One sentence: what happened; what to do. */
export function endSentence({ reason, instance, detail }: EpochEnd): string {
  const words: EndWords = EPOCH_ENDS[reason]
  const what = words.happened(shortened(instance) ?? 'an instance', shortened(detail) ?? 'no more is known')
  const text = `${what}; ${words.remedy}.`
  return text.charAt(0).toUpperCase() + text.slice(1)
}

function shortened(text: string | undefined): string | undefined {
  return text && text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)}…` : text
}
