import Prelude
