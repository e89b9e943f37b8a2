/** What must hold of the table of states, whatever else is changed in it. */
import { describe, expect, it } from 'vitest'
import { SYNC_STATES, SYNC_TRANSITIONS, type SyncEvent } from '../../src/tracking/replication-state.ts'

const EVENTS = ['dirty', 'start', 'succeed', 'fail', 'release', 'resync'] as const satisfies SyncEvent[]

describe('the states of a tracked repository', () => {
  it('become synced by a job that succeeded and by nothing else', () => {
    const ways = SYNC_STATES.flatMap((state) =>
      EVENTS.filter((event) => state !== 'synced' && SYNC_TRANSITIONS[state][event] === 'synced').map(
        (event) => `${state} ${event}`,
      ),
    )

    expect(ways).toEqual(['started succeed'])
  })

  it.each(SYNC_STATES)('never strand a repository that is %s', (state) => {
    const dirtied = SYNC_TRANSITIONS[state].dirty

    expect(dirtied).not.toBe('synced')
    expect(SYNC_TRANSITIONS[dirtied].start).toBe('started')
    expect(SYNC_TRANSITIONS[SYNC_TRANSITIONS[state].resync].start).toBe('started')
  })

  it('let a job that runs end in its own way only, however often it is heard of', () => {
    expect(SYNC_TRANSITIONS.started).toMatchObject({
      dirty: 'started',
      resync: 'started',
      release: 'pending',
    })
    for (const state of ['pending', 'synced', 'failed'] as const) {
      for (const event of ['succeed', 'fail', 'release'] as const) {
        expect(SYNC_TRANSITIONS[state][event]).toBe(state)
      }
    }
  })
})
