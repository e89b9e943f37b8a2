/** The states of a tracked repository, GitLab's, and what each event makes of each: total, so that none is forgotten. */

export const SYNC_STATES = ['pending', 'started', 'synced', 'failed'] as const
export type SyncState = (typeof SYNC_STATES)[number]

export const VERIFICATION_STATES = ['pending', 'started', 'succeeded', 'failed', 'disabled'] as const
export type VerificationState = (typeof VERIFICATION_STATES)[number]

/** `dirty`: something may have changed at the primary. `start`: a job holds the lease. */
export type SyncEvent = 'dirty' | 'start' | 'succeed' | 'fail' | 'release' | 'resync'

/** A started repository stays started when it is dirtied: its change number makes it run again when the job settles. */
export const SYNC_TRANSITIONS: Readonly<Record<SyncState, Readonly<Record<SyncEvent, SyncState>>>> = {
  pending: {
    dirty: 'pending',
    start: 'started',
    succeed: 'pending',
    fail: 'pending',
    release: 'pending',
    resync: 'pending',
  },
  started: {
    dirty: 'started',
    start: 'started',
    succeed: 'synced',
    fail: 'failed',
    release: 'pending',
    resync: 'started',
  },
  synced: {
    dirty: 'pending',
    start: 'started',
    succeed: 'synced',
    fail: 'synced',
    release: 'synced',
    resync: 'pending',
  },
  failed: {
    dirty: 'pending',
    start: 'started',
    succeed: 'failed',
    fail: 'failed',
    release: 'failed',
    resync: 'pending',
  },
}
